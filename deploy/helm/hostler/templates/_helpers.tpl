{{- define "hostler.labels" -}}
{{ include "hostler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hostler.selector" -}}
app.kubernetes.io/name: hostler
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hostler.instances" -}}
{{ .Values.instances.namespace | default (printf "%s-instances" .Release.Namespace) }}
{{- end }}

{{- define "hostler.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "hostler.serverImage" -}}
{{ .Values.serverImage.repository }}:{{ .Values.serverImage.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "hostler.keys" -}}
{{ .Values.signatures.existingSecret | default (printf "%s-keys" .Release.Name) }}
{{- end }}

{{- define "hostler.link" -}}
{{ .Values.links.existingSecret | default (printf "%s-link" .Release.Name) }}
{{- end }}

{{/* Secrets of this name are in both namespaces: of all tokens beside control, of the agents' beside the instances. */}}
{{- define "hostler.tokens" -}}
{{ .Values.links.existingTokens | default (printf "%s-link-tokens" .Release.Name) }}
{{- end }}

{{/* A JSON value as TOML: JSON's strings, numbers, truth values and lists are TOML's, its objects are not. */}}
{{- define "hostler.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }} = {{ include "hostler.toml" (get $ $key) }}{{ end -}} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $value := . }}{{ if $index }}, {{ end }}{{ include "hostler.toml" $value }}{{ end -}}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{- define "hostler.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "hostler.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "hostler.spread" -}}
{{- $when := ternary "DoNotSchedule" "ScheduleAnyway" (eq .spread "hard") }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: {{ $when }}
  labelSelector: {matchLabels: {{ $.labels | toJson }}}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{/* What the pods of control and of the gateways have in common. */}}
{{- define "hostler.placing" -}}
{{- with .nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "hostler.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
