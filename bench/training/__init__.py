"""What a wrong gradient of softmax does to training: two networks, every right backward and every known mistake.

digits      the images, from scikit-learn's own files
gradients   what a network's softmax, or the loss after it, gets as its backward
networks    softmax as the last layer, and softmax in the middle
study       one network trained with one gradient, an epoch a row; the stored table
outcomes    what became of each gradient, from the table alone
charts      table -> figures
command     softmax-bench train
"""
