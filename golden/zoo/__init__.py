"""Networks that come with the project: the digits networks, and float networks of the field."""
