"""What every room needs: errors, files, folders, workers."""
