// Package fulldisk tests the program on a real file system that is really full: a tmpfs of 256 MB, both capacity
// policies, real clients, 0 bytes free, kill -9 and restart. It holds tests only.
package fulldisk
