// Package demo shows in about a minute what the program is for: a node takes messages faster than one consumer reads them,
// an alarm fires when its disk is 80 % full, the capacity guard acts at 95 %, and the alarm is resolved when there is room
// again. What arrives at a webhook, a mailbox and an SMS gateway is printed as it arrives.
//
// With three brokers or more it shows a cluster instead: under load the node that leads it is killed, the alarm arrives,
// the node is started again, and every acknowledged message is read back.
//
// It is also an end-to-end test: Run fails when anything that has to happen does not. The node is a process of the same
// program, started with a configuration file as a user would write it; load, sinks and story are in this process.
package demo
