// Package journal runs one internal partition as a state machine's log.
package journal
