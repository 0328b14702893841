"""What `check` looks at: facts are read by `app.aws.inspect`, judged here."""
