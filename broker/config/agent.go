package config

// capacity is what the guard goes by.
// Source: product specification, "Capacity threshold".
var capacity = []Setting{
	{Name: "storage_capacity", Scope: Node | Agent, Kind: Size, Unit: "bytes", Default: "0", Min: 0, Max: unlimited, Dynamic: true, Help: "Size of the volume for message data, where the file system is shared with others; 0 = the file system's own size."},
	{Name: "capacity.threshold", Scope: Node | Agent, Kind: Double, Unit: "%", Default: "95", Min: 1, Max: 100, Dynamic: true, Help: "Disk usage at which the capacity policy acts."},
	{Name: "capacity.policy", Scope: Node | Agent, Kind: String, Default: "reject", Values: []string{"delete", "reject"}, Dynamic: true, Help: "What is done at the threshold: delete the oldest data, or reject produce requests."},
	{Name: "capacity.check.interval", Scope: Node | Agent, Kind: Duration, Default: "5s", Min: 0.05, Max: 5, Help: "How often the disk is looked at."},
}

var agentRows = []Setting{
	{Name: "agent.listen", Scope: Node | Agent, Kind: String, Default: "127.0.0.1:9308", Help: "Address of /metrics, /alarms, /healthz and /readyz; empty = not served."},
	{Name: "agent.period", Scope: Node | Agent, Kind: Duration, Default: "60s", Min: 1, Max: 3600, Help: "Length of a sampling period, aligned to the clock."},
	{Name: "agent.state.dir", Scope: Node | Agent, Kind: String, Help: "Directory for alarm states, queued notifications and the audit log; empty = agent under the first of log.dirs; for an agent without a broker ./belfry-agent."},
	{Name: "agent.cluster.listen", Scope: Node, Kind: String, Help: "HOST:PORT (TCP and UDP) where the agents of a cluster's nodes tell each other which alarms fire and what was told, so that each alarm is told once though another node takes over. HOST is this node's own address; the other nodes learn it from the cluster. Beyond loopback agent.cluster.secret has to be set. Empty = a free port where the brokers talk to each other over loopback, else none."},
	{Name: "agent.cluster.secret", Scope: Node, Kind: Password, Sensitive: true, Help: "Secret of the agents of one cluster, the same on all nodes: encrypts and authenticates what they tell each other."},
	{Name: "include_internal", Scope: Node | Agent, Kind: Bool, Default: "false", Help: "Whether topics and groups whose names begin with _ or # have series."},
	{Name: "alarm.rules", Scope: Node | Agent, Kind: List, Help: "YAML files with alarm rules of your own; read again when they change."},
	{Name: "alarm.backlog.limit", Scope: Node | Agent, Kind: Long, Default: "0", Min: 0, Max: unlimited, Help: "Most unconsumed messages over all groups; an alarm comes at 90 %. 0 = that rule is off."},
	{Name: "alarm.topic.backlog.limit", Scope: Node | Agent, Kind: Long, Default: "0", Min: 0, Max: unlimited, Help: "Most unconsumed messages of a group in one topic; an alarm comes at 90 %. 0 = that rule is off."},
	{Name: "notify.config", Scope: Node | Agent, Kind: String, Help: "Alertmanager configuration file with routes and receivers; takes the place of the simple notify settings."},
	{Name: "notify.sms.config", Scope: Node | Agent, Kind: String, Help: "YAML file with SMS gateway receivers, to be named in the routes."},
	{Name: "notify.webhook.url", Scope: Node | Agent, Kind: Password, Sensitive: true, Help: "URL that alarms are posted to as JSON."},
	{Name: "notify.webhook.token", Scope: Node | Agent, Kind: Password, Sensitive: true, Help: "Bearer token for the webhook."},
	{Name: "notify.email.to", Scope: Node | Agent, Kind: List, Help: "Mail addresses that alarms go to."},
	{Name: "notify.email.from", Scope: Node | Agent, Kind: String, Default: "belfry@localhost", Help: "Sender of alarm mails."},
	{Name: "notify.email.smarthost", Scope: Node | Agent, Kind: String, Help: "Mail server, HOST:PORT."},
	{Name: "notify.email.username", Scope: Node | Agent, Kind: String, Help: "User at the mail server; empty = no authentication."},
	{Name: "notify.email.password", Scope: Node | Agent, Kind: Password, Sensitive: true, Help: "Password at the mail server."},
	{Name: "notify.email.tls", Scope: Node | Agent, Kind: String, Default: "starttls", Values: []string{"starttls", "tls", "none"}, Help: "How mail is protected on its way: STARTTLS, TLS from the first byte, or not at all."},
	{Name: "notify.email.ca", Scope: Node | Agent, Kind: String, Help: "PEM file of certificates to trust at the mail server besides the system's."},
	{Name: "notify.watchdog.url", Scope: Node | Agent, Kind: Password, Sensitive: true, Help: "URL of a dead man's switch, which is posted to again and again while the alarm road works."},
	{Name: "agent.bootstrap.servers", Scope: Agent, Kind: List, Default: "127.0.0.1:9092", Help: "Brokers of the cluster to watch, for an agent without a broker."},
	{Name: "agent.sasl.mechanism", Scope: Agent, Kind: String, Values: []string{"", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, Help: "How the agent logs in at the cluster it watches; empty = not at all."},
	{Name: "agent.sasl.username", Scope: Agent, Kind: String, Help: "User at the cluster."},
	{Name: "agent.sasl.password", Scope: Agent, Kind: Password, Sensitive: true, Help: "Password at the cluster."},
	{Name: "agent.tls.enable", Scope: Agent, Kind: Bool, Default: "false", Help: "Whether the agent speaks TLS to the cluster."},
	{Name: "agent.host.broker", Scope: Agent, Kind: Int, Min: 0, Max: maxInt, Help: "ID of the watched broker that runs on the agent's own machine: CPU, memory, load and network are read for it. Not set = no broker does."},
	{Name: "agent.host.dirs", Scope: Agent, Kind: List, Help: "Data directories of that broker; disk usage and times are read for them."},
	{Name: "agent.tls.ca", Scope: Agent, Kind: String, Help: "PEM file of the authority that signed the cluster's certificates; empty = the system's."},
}
