variable "name" {
  description = "Prefix of every resource."
  type        = string
  default     = "digitize"
}

variable "bucket" {
  description = "Name of the bucket: uploads/, store/ and published/ lie in it."
  type        = string
}

variable "scratch_days" {
  description = "Days after which unfinished multipart uploads and old versions of objects are removed."
  type        = number
  default     = 14
}

variable "quiet_seconds" {
  description = "How long a message that the poller has taken stays hidden from others."
  type        = number
  default     = 120
}
