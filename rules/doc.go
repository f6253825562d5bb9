// Package rules says what alarm rules are: how they are written, read and
// checked, and which every instance starts with. It evaluates nothing.
//
// # A rule file
//
//	rules:
//	  - name: orders_lag                    # unique; the alert's name for receivers
//	    summary: Billing is behind on orders
//	    metric: topic_messages_remained     # any sampled metric of the catalogue
//	    match: kafka_groups="billing", kafka_topics=~"orders-.*"
//	    aggregation: max                    # raw avg max min sum increase; default raw
//	    period: 5m                          # default: the sampling period
//	    condition: "> 100_000"              # > >= < <= == != NUMBER UNIT
//	    for: 3                              # periods in a row until the alarm; default 1
//	    for_ok: 2                           # good periods until it is over; default 1
//	    severity: major                     # critical major minor info; default major
//	    advice: Add members to the group.
//	    window: "08:00-20:00 Europe/Berlin" # when it is in force; default always
//	    repeat: 4h                          # notified again while it lasts; default 1d; once = never
//	    notify_on: [alarm, ok]              # default both
//	    receivers: [oncall]                 # default: as the routes say
//	    enabled: true                       # default true
//
// Only name, metric and condition are needed. An alarm of its own exists for
// each label set that the metric has and match takes: the rule above alarms for
// each topic by itself.
//
// Units are those of the metric, or others of the same kind: %, byte kB MB GB TB
// KiB MiB GiB TiB (also per second, as in MB/s), ms s min, h and d where the
// metric is in seconds. A condition may be a share of a limit that the user sets:
// "> 90 % of partition_limit", group_backlog_limit, topic_backlog_limit; while
// the limit is not set, the rule is off and says so.
//
// A counter (a metric whose name ends in _total) is watched with aggregation
// increase: how much it grew in the period.
//
// A rule that has the name of a built-in one changes that one; what is not
// written stays.
//
// # What is refused
//
// Unknown keys, metrics, labels, units and receivers; a condition that can never
// fire because the metric's range excludes it, or that would fire always; a
// counter without increase. Every refusal names file, line, value and limit, and
// refuses the whole file: half a rule file is a rule that nobody misses until it
// is needed.
package rules
