// Package crash holds the tests that take a real node down under load, again and again, fill
// its disk to the last byte and change what lies on it, and prove afterwards that no
// acknowledged message was lost and nothing damaged was served. It has no code of its own.
//
// With BELFRY_LONG set the node is taken down a hundred times. The tests of full disks mount a
// tmpfs in a mount namespace of their own.
package crash
