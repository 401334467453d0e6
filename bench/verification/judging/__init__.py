"""What a target is asked, whether its answers are right, and which known mistake they show."""
