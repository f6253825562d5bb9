package notify

// messageTemplates are the texts of mails and SMS. A template file of the
// configuration may define any of them anew.
const messageTemplates = `
{{- define "belfry.value" }}{{ .Annotations.value }}{{ with .Annotations.unit }} {{ . }}{{ end }}{{ end }}

{{- define "belfry.head" -}}
[{{ if eq .Status "resolved" }}OK{{ else }}{{ .Labels.severity | toUpper }}{{ end }}] {{ .Labels.alertname }}: {{ .Annotations.object }}
{{- if .Annotations.value }}, value {{ template "belfry.value" . }}{{ end }}
{{- if eq .Annotations.state "no-data" }}, no data now{{ end }}
{{- end }}

{{- define "belfry.subject" -}}
{{ if eq (len .Alerts) 1 }}{{ template "belfry.head" index .Alerts 0 }}
{{- else }}[{{ len .Alerts.Firing }} ALARM, {{ len .Alerts.Resolved }} OK] {{ .CommonLabels.alertname }}{{ end }}
{{- end }}

{{- define "belfry.text" -}}
{{ range .Alerts }}{{ template "belfry.head" . }}
{{ with .Annotations.summary }}{{ . }}.
{{ end }}
  object     {{ .Annotations.object }}
{{ if .Annotations.value }}  value      {{ template "belfry.value" . }}
  threshold  {{ .Annotations.threshold }}{{ with .Annotations.unit }} {{ . }}{{ end }}
{{ end }}  condition  {{ .Annotations.condition }}
  since      {{ .StartsAt.UTC.Format "2006-01-02 15:04:05 UTC" }}
{{ if eq .Status "resolved" }}  ended      {{ .EndsAt.UTC.Format "2006-01-02 15:04:05 UTC" }}
{{ end }}{{ with .Annotations.reason }}  because    {{ . }}
{{ end }}{{ with .Labels.kafka_instance_id }}  instance   {{ . }}
{{ end }}{{ with .Annotations.advice }}  advice     {{ . }}
{{ end }}
{{ end }}
{{- end }}

{{- define "belfry.html" -}}
<!DOCTYPE html>
<html><head><meta charset="utf-8"></head><body style="font-family:sans-serif">
{{ range .Alerts }}
<h3 style="color:{{ if eq .Status "resolved" }}#2e7d32{{ else if eq .Labels.severity "critical" }}#b71c1c{{ else }}#e65100{{ end }}">{{ template "belfry.head" . }}</h3>
{{ with .Annotations.summary }}<p>{{ . }}.</p>{{ end }}
<table style="border-collapse:collapse" cellpadding="4">
<tr><td>object</td><td><b>{{ .Annotations.object }}</b></td></tr>
{{ if .Annotations.value }}<tr><td>value</td><td><b>{{ template "belfry.value" . }}</b></td></tr>
<tr><td>threshold</td><td>{{ .Annotations.threshold }}{{ with .Annotations.unit }} {{ . }}{{ end }}</td></tr>{{ end }}
<tr><td>condition</td><td>{{ .Annotations.condition }}</td></tr>
<tr><td>since</td><td>{{ .StartsAt.UTC.Format "2006-01-02 15:04:05 UTC" }}</td></tr>
{{ if eq .Status "resolved" }}<tr><td>ended</td><td>{{ .EndsAt.UTC.Format "2006-01-02 15:04:05 UTC" }}</td></tr>{{ end }}
{{ with .Annotations.reason }}<tr><td>because</td><td>{{ . }}</td></tr>{{ end }}
{{ with .Labels.kafka_instance_id }}<tr><td>instance</td><td>{{ . }}</td></tr>{{ end }}
{{ with .Annotations.advice }}<tr><td>advice</td><td>{{ . }}</td></tr>{{ end }}
</table>
{{ end }}
</body></html>
{{- end }}

{{- define "belfry.sms" -}}
{{ range $i, $a := .Alerts }}{{ if $i }}; {{ end }}{{ template "belfry.head" $a }}
{{- if eq .Status "resolved" }}, over {{ .EndsAt.UTC.Format "01-02 15:04" }}{{ with .Annotations.reason }} ({{ . }}){{ end }}
{{- else }}{{ with .Annotations.threshold }}, threshold {{ . }}{{ with $a.Annotations.unit }} {{ . }}{{ end }}{{ end }}{{ end }}, since {{ .StartsAt.UTC.Format "01-02 15:04 UTC" }}
{{- if ne .Status "resolved" }}{{ with .Annotations.advice }}. {{ . }}{{ end }}{{ end }}
{{- end }}
{{- end }}
`
