# What each part may do, and nothing else. Attach them to the roles or users that your machines run as.
# ...IfExists: a request for one object has no s3:prefix, and without ListBucket S3 answers 403 instead of 404.

# Stages: read uploads, read and write the work store, write what is published. They never delete what is published.
data "aws_iam_policy_document" "stages" {
  statement {
    sid       = "List"
    effect    = "Allow"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]
    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["uploads/*", "store/*", "published/*"]
    }
  }
  statement {
    sid       = "ReadUploads"
    effect    = "Allow"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this.arn}/uploads/*"]
  }
  statement {
    sid       = "WorkStore"
    effect    = "Allow"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this.arn}/store/*"]
  }
  statement {
    sid       = "Publish"
    effect    = "Allow"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this.arn}/published/*"]
  }
}

# The poller: read the queue and look at uploads.
data "aws_iam_policy_document" "poller" {
  statement {
    sid       = "Queue"
    effect    = "Allow"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    resources = [aws_sqs_queue.uploads.arn]
  }
  statement {
    sid       = "Replay"
    effect    = "Allow"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
    resources = [aws_sqs_queue.dead_letter.arn]
  }
  statement {
    sid       = "ReplayInto"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.uploads.arn]
  }
  statement {
    sid       = "List"
    effect    = "Allow"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]
    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["uploads/*", "published/*"]
    }
  }
  statement {
    sid       = "ReadManifests"
    effect    = "Allow"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this.arn}/uploads/*"]
  }
}

# Whoever uploads: put objects below uploads/, and nothing else, not even reading them.
data "aws_iam_policy_document" "uploader" {
  statement {
    sid       = "Upload"
    effect    = "Allow"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this.arn}/uploads/*"]
  }
}

# Housekeeping: `digitize withdraw --purge` also deletes what is published.
data "aws_iam_policy_document" "housekeeping" {
  source_policy_documents = [data.aws_iam_policy_document.stages.json]
  statement {
    sid       = "Withdraw"
    effect    = "Allow"
    actions   = ["s3:DeleteObject"]
    resources = ["${aws_s3_bucket.this.arn}/published/*"]
  }
}

locals {
  policies = {
    stages       = data.aws_iam_policy_document.stages.json
    poller       = data.aws_iam_policy_document.poller.json
    uploader     = data.aws_iam_policy_document.uploader.json
    housekeeping = data.aws_iam_policy_document.housekeeping.json
  }
}

resource "aws_iam_policy" "this" {
  for_each = local.policies
  name     = "${var.name}-${each.key}"
  policy   = each.value
}
