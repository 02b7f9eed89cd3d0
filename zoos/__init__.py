"""What a zoo is: recipes, architectures, image data, file format."""
