{{- define "elemta.name" -}}
{{- if contains "elemta" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-elemta" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}
{{- define "elemta.selector" -}}
app.kubernetes.io/name: elemta
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "elemta.labels" -}}
{{ include "elemta.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
{{- define "elemta.submission" -}}
{{- if and .Values.tls.secret .Values.keys.secret -}}yes{{- end -}}
{{- end -}}
{{- define "elemta.toml" -}}
hostname = {{ .Values.hostname | quote }}
postmaster = {{ .Values.postmaster | quote }}
state_dir = "/var/lib/elemta"

[domains]
local = {{ .Values.domains | toJson }}

[[routes]]
match = "local"
{{- if .Values.store.host }}
transport = "lmtp"
host = {{ .Values.store.host | quote }}
port = {{ .Values.store.port }}
{{- else }}
transport = "maildir"
path = "/var/lib/elemta/mail/{domain}/{local_part}"
{{- end }}

[[listeners]]
name = "mx"
address = ":2525"
role = "mx"
{{- if .Values.tls.secret }}
tls = "starttls"

[tls]
certificate = "/etc/elemta-tls/tls.crt"
key = "/etc/elemta-tls/tls.key"
{{- end }}
{{- if include "elemta.submission" . }}

[[listeners]]
name = "submissions"
address = ":2465"
role = "submission"
tls = "implicit"
auth = "required"

[[listeners]]
name = "submission"
address = ":2587"
role = "submission"
tls = "starttls"
auth = "required"

[auth]
users = "/etc/elemta-keys/users"
{{- end }}
{{- if .Values.keys.secret }}

[[signing]]
selector = {{ .Values.keys.selector | quote }}
key = "/etc/elemta-keys/dkim.pem"
{{- end }}

[admin]
address = ":8025"
{{- with .Values.extraConfig }}

{{ . }}
{{- end }}
{{- end -}}
