// Package agent is the half that watches: it joins sampler, guard, alarms and notification.
package agent
