//go:build !planted

package main

import "time"

// clock is the one that the broker goes by.
func clock() func() time.Time { return time.Now }
