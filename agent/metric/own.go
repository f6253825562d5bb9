package metric

// Our own metrics that are in the snapshot, so that rules can watch them.
const (
	AgentUp                   ID = "belfry_agent_up"
	Brokers                   ID = "belfry_brokers"
	UnderReplicatedPartitions ID = "belfry_under_replicated_partitions"
	OfflinePartitions         ID = "belfry_offline_partitions"
	ConsumerGroups            ID = "belfry_consumer_groups"
	GroupMembers              ID = "belfry_group_members"
	GroupTopicLagSeconds      ID = "belfry_group_topic_lag_seconds"
	CommittedPastEnd          ID = "belfry_committed_past_end_total"
	DiskUsedBytes             ID = "belfry_disk_used_bytes"
	DiskCapacityBytes         ID = "belfry_disk_capacity_bytes"
	LogDirOnline              ID = "belfry_log_dir_online"
	OfflineLogDirs            ID = "belfry_offline_log_dirs"
	LogDirFailed              ID = "belfry_log_dir_failed"
	DamagedReplicas           ID = "belfry_damaged_replicas"
	ReplicaDamaged            ID = "belfry_replica_damaged"
	ReplicasRefetched         ID = "belfry_replicas_refetched_total"
	OfflineReplicas           ID = "belfry_offline_replicas"
	ReplicationLag            ID = "belfry_replication_lag"
	ActiveController          ID = "belfry_active_controller"
	ControllerKnown           ID = "belfry_controller_known"
	ControllerChanges         ID = "belfry_controller_changes_total"
	Corruptions               ID = "belfry_corruptions_total"
	Ticks                     ID = "belfry_ticks_total"
	TicksMissed               ID = "belfry_ticks_missed_total"
	PeriodSeconds             ID = "belfry_period_seconds"
	CollectorTimeouts         ID = "belfry_collector_timeouts_total"
	CollectorErrors           ID = "belfry_collector_errors_total"
	CollectorSeconds          ID = "belfry_collector_duration_seconds"
	OpenFilesUsage            ID = "belfry_open_files_usage"
	PartRestarts              ID = "belfry_agent_restarts_total"
	PartSkips                 ID = "belfry_agent_skipped_total"
	SeriesLeftOut             ID = "belfry_series_left_out"

	Alarms     ID = "belfry_alarms"
	AlarmState ID = "belfry_alarm_state"

	Notifications        ID = "belfry_notifications_total"
	NotificationsFailed  ID = "belfry_notifications_failed_total"
	NotificationsWaiting ID = "belfry_notifications_waiting"
	RuleReloadFailures   ID = "belfry_rule_reload_failures_total"
)

// Labels of our own metrics.
const (
	LabelCollector = "collector"
	LabelDir       = "dir"
	LabelPart      = "part"
	LabelPolicy    = "policy"
	LabelReceiver  = "receiver"
	LabelRule      = "rule"
	LabelSeverity  = "severity"
	LabelWhere     = "where"
	LabelWhy       = "why"
)

func ownMetrics() []Metric {
	b := []string{LabelBroker}
	rows := []Metric{
		{ID: AgentUp, Help: "Always 1: the sampler of this node beats.", Unit: "bool", Max: 1, Labels: b},
		{ID: Brokers, Help: "Brokers registered in the instance.", Unit: "count"},
		{ID: UnderReplicatedPartitions, Help: "Partitions with fewer replicas in sync than assigned.", Unit: "count"},
		{ID: OfflinePartitions, Help: "Partitions without a leader.", Unit: "count"},
		{ID: ConsumerGroups, Help: "Consumer groups in the instance.", Unit: "count"},
		{ID: GroupMembers, Help: "Members of the consumer group.", Unit: "count", Labels: []string{LabelGroup}},
		{ID: GroupTopicLagSeconds, Help: "Age of the oldest message that the group has still to consume in the topic, largest over its partitions.", Unit: "s", Labels: []string{LabelGroup, LabelTopic}},
		{ID: CommittedPastEnd, Help: "Times that a committed offset lay past the end of its partition.", Unit: "count", Counter: true},
		{ID: DiskUsedBytes, Help: "Bytes used of the data disk, or of the storage capacity where one is set.", Unit: "byte", Labels: b},
		{ID: DiskCapacityBytes, Help: "Size of the data disk, or the storage capacity where one is set.", Unit: "byte", Labels: b},
		{ID: LogDirOnline, Help: "1 when the data directory works, 0 when it was taken offline.", Unit: "bool", Max: 1, Labels: []string{LabelDir, LabelBroker}},
		{ID: OfflineLogDirs, Help: "Data directories that were taken offline.", Unit: "count", Labels: b},
		{ID: LogDirFailed, Help: "1 for each data directory that was taken offline, and why.", Unit: "bool", Max: 1, Labels: []string{LabelDir, LabelBroker, LabelWhy}},
		{ID: DamagedReplicas, Help: "Replicas of the broker whose data was found damaged and that are not whole and in sync again.", Unit: "count", Labels: b},
		{ID: ReplicaDamaged, Help: "1 for each damaged replica, and why; a replica of a cluster is fetched anew by itself where another one is in sync.", Unit: "bool", Max: 1, Labels: []string{LabelDir, LabelBroker, LabelPartition, LabelTopic, LabelWhy}},
		{ID: ReplicasRefetched, Help: "Times that the damaged files of a replica were set aside and it was fetched anew.", Unit: "count", Counter: true, Labels: b},
		{ID: OfflineReplicas, Help: "Replicas whose broker or data directory is out of service.", Unit: "count"},
		{ID: ReplicationLag, Help: "Messages that the slowest replica of any partition that the broker leads lacks.", Unit: "count", Labels: b},
		{ID: ActiveController, Help: "1 while this node is the active controller, as a majority of the voters confirmed at the beginning of the period.", Unit: "bool", Max: 1, Labels: b},
		{ID: ControllerKnown, Help: "1 while an active controller answers this node, or is this node; 0 while nobody can change topics, leaders or settings.", Unit: "bool", Max: 1, Labels: b},
		{ID: ControllerChanges, Help: "Times that this node became the active controller; the sum over all nodes counts the changes.", Unit: "count", Counter: true, Labels: b},
		{ID: Corruptions, Help: "Damaged data found.", Unit: "count", Counter: true, Labels: []string{LabelBroker, LabelWhere}},
		{ID: SeriesLeftOut, Help: "Series of single partitions that were left out because the series limit was reached; sums over topics and groups stay.", Unit: "count"},
		{ID: Ticks, Help: "Periods that the sampler of this node has sampled.", Unit: "count", Counter: true, Labels: b},
		{ID: PeriodSeconds, Help: "True length of the period that the sampled metrics describe.", Unit: "s", Labels: b},
		{ID: TicksMissed, Help: "Periods that the sampler of this node lost.", Unit: "count", Counter: true, Labels: b},
		{ID: CollectorTimeouts, Help: "Times that a collector came after its deadline.", Unit: "count", Counter: true, Labels: []string{LabelCollector, LabelBroker}},
		{ID: CollectorErrors, Help: "Times that a collector failed.", Unit: "count", Counter: true, Labels: []string{LabelCollector, LabelBroker}},
		{ID: CollectorSeconds, Help: "Time that the collector took in the last period.", Unit: "s", Labels: []string{LabelCollector, LabelBroker}},
		{ID: OpenFilesUsage, Help: "Open file descriptors of the process against its limit.", Unit: "%", Max: 100, Labels: b},
		{ID: PartRestarts, Help: "Times that a part of the agent failed and was started again.", Unit: "count", Counter: true, Labels: []string{LabelBroker, LabelPart}},
		{ID: PartSkips, Help: "Snapshots that a part of the agent was too busy to take.", Unit: "count", Counter: true, Labels: []string{LabelBroker, LabelPart}},
	}
	rows = append(rows, guardMetrics(b)...)
	return in(GroupOwn, append(rows, alarmMetrics(b)...))
}

// guardMetrics are the rows of the capacity guard, whose own test compares them with what it gives.
func guardMetrics(b []string) []Metric {
	return []Metric{
		{ID: "belfry_guard_active", Help: "1 while the data disk is past the capacity threshold or the capacity guard acts, and for two periods after.", Unit: "bool", Max: 1, Labels: b},
		{ID: "belfry_guard_deleted_bytes_total", Help: "Bytes that the capacity guard deleted.", Unit: "byte", Counter: true, Labels: b},
		{ID: "belfry_guard_deletions_total", Help: "Times that the capacity guard deleted data.", Unit: "count", Counter: true, Labels: b},
		{ID: "belfry_guard_disk_usage", Help: "Share of the data disk in use as the capacity guard saw it last.", Unit: "%", Max: 100, Labels: b},
		{ID: "belfry_guard_exhausted", Help: "1 while the disk is past the capacity threshold and nothing is left to delete.", Unit: "bool", Max: 1, Labels: b},
		{ID: "belfry_guard_failures_total", Help: "Times that the capacity guard could not read the disk or not delete.", Unit: "count", Counter: true, Labels: b},
		{ID: "belfry_guard_forecast_seconds", Help: "Time until the disk reaches the capacity threshold at the pace of the last minutes; absent while it does not fill.", Unit: "s", Labels: b},
		{ID: "belfry_guard_policy", Help: "1 for the capacity policy in force.", Unit: "bool", Max: 1, Labels: []string{LabelBroker, LabelPolicy}},
		{ID: "belfry_guard_probe_failed", Help: "1 while the disk usage cannot be read.", Unit: "bool", Max: 1, Labels: b},
		{ID: "belfry_guard_rejected_requests_total", Help: "Produce requests that the capacity guard refused.", Unit: "count", Counter: true, Labels: b},
		{ID: "belfry_guard_rejecting", Help: "1 while the capacity guard refuses produce requests.", Unit: "bool", Max: 1, Labels: b},
		{ID: "belfry_guard_threshold", Help: "Disk usage at which the capacity guard acts.", Unit: "%", Max: 100, Labels: b},
		{ID: "belfry_guard_untold_total", Help: "Capacity events that were dropped because whoever keeps them hangs.", Unit: "count", Counter: true, Labels: b},
	}
}

func alarmMetrics(b []string) []Metric {
	return []Metric{
		{ID: Alarms, Help: "Alarms that are firing, by severity.", Unit: "count", Labels: []string{LabelSeverity}},
		{ID: AlarmState, Help: "1 for each alarm that is firing, with the labels of its object.", Unit: "bool", Max: 1, Labels: []string{LabelRule, LabelSeverity}, Open: true},
		{ID: Notifications, Help: "Notifications delivered.", Unit: "count", Counter: true, Labels: []string{LabelBroker, LabelReceiver}},
		{ID: NotificationsFailed, Help: "Attempts to notify that failed.", Unit: "count", Counter: true, Labels: []string{LabelBroker, LabelReceiver}},
		{ID: NotificationsWaiting, Help: "Notifications that wait to be delivered.", Unit: "count", Labels: []string{LabelBroker, LabelReceiver}},
		{ID: RuleReloadFailures, Help: "Times that a changed rule file was refused.", Unit: "count", Counter: true, Labels: b},
	}
}
