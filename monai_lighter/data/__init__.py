"""What is true of the cases themselves: whether they can be read, and what of them differs, is wrong or stands twice."""
