"""What stands behind the page and the API: who may do what, turns to answer, jobs, conversations, pictures of pages."""
