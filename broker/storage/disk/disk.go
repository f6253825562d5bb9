// Package disk is the file system as the log sees it.
package disk

// FS is what storage needs of a file system.
type FS interface{}
