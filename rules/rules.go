// Package rules holds alarm rules: what they are, how they are read and checked, and the built-in ones.
package rules
