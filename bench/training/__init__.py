"""What a wrong gradient of softmax does to training: two networks, each with every right backward and every mistake.

digits      the images, from scikit-learn's own files
graph       the nodes that networks are made of
gradients   every backward that a network's softmax, or the loss after it, is trained with
networks    softmax as the last layer, and softmax in the middle
study       trains a network with a gradient, and stores a row for each epoch
outcomes    judges what became of each gradient, from the table alone
charts      draws the table
command     softmax-bench train
"""
