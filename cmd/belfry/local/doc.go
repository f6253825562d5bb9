// Package local runs a whole cluster of real processes on this machine, for those who
// want to try one, show one or break one: up, status, kill, stop, restart, add, down.
//
// A cluster is a directory. cluster.json in it says which nodes there are and at which
// addresses, so that they keep them over restarts; node-N holds the configuration, the
// data, the output and the process ID of one node. The processes outlive the command
// that started them; what the next command knows of them it reads from the directory.
//
// Invariant: only a process that was started with the configuration file of this
// directory is ever signalled.
package local
