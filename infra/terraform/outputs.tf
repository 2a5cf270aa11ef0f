output "settings" {
  description = "Environment variables for the poller and the workers."
  value = {
    DIGITIZE_UPLOADS_QUEUE_URL       = aws_sqs_queue.uploads.id
    DIGITIZE_UPLOADS_DEAD_LETTER_URL = aws_sqs_queue.dead_letter.id
  }
}

output "places" {
  description = "For the specification: captures.under, store, publish.to."
  value = {
    uploads   = "s3://${aws_s3_bucket.this.bucket}/uploads"
    store     = "s3://${aws_s3_bucket.this.bucket}/store"
    published = "s3://${aws_s3_bucket.this.bucket}/published"
  }
}

output "policies" {
  description = "Policies to attach."
  value       = { for name, policy in aws_iam_policy.this : name => policy.arn }
}
