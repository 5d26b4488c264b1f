"""What models make of a picture: the picture, its upscaling, and the viewer that shows both."""
