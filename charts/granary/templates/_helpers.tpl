{{- define "granary.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: granary
{{- end -}}

{{- define "granary.selector" -}}
app.kubernetes.io/name: granary-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "granary.keyserverSelector" -}}
app.kubernetes.io/name: granary-keyserver
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "granary.registrySelector" -}}
app.kubernetes.io/name: granary-registry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Where the registry is: the chart's own, or the one that the values name. */}}
{{- define "granary.registryHost" -}}
{{- if .Values.registry.create -}}
granary-registry.{{ .Release.Namespace }}.svc
{{- else -}}
{{ required "registry.host: name your PostgreSQL, or set registry.create=true" .Values.registry.host }}
{{- end -}}
{{- end -}}

{{/* What the operator and the key server are told about the registry. */}}
{{- define "granary.registryEnv" -}}
- name: GRANARY_REGISTRY_HOST
  value: {{ include "granary.registryHost" . | quote }}
- name: GRANARY_REGISTRY_PORT
  value: {{ ternary 5432 .Values.registry.port .Values.registry.create | quote }}
- name: GRANARY_REGISTRY_DATABASE
  value: {{ ternary "app" .Values.registry.database .Values.registry.create | quote }}
{{- if and (not .Values.registry.create) .Values.registry.caBundle }}
- name: GRANARY_REGISTRY_CA_FILE
  value: /run/granary/registry-ca/ca.crt
{{- end }}
{{- end -}}

{{/* Scheduling, as in a pod, from `operator`, `keyserver` or `registry`. */}}
{{- define "granary.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "granary.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "granary.gatewayNamespace" -}}
{{ .Values.gateway.namespace | default .Release.Namespace }}
{{- end -}}

{{/* What every container of the plane may: nothing but run. */}}
{{- define "granary.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "granary.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Egress rules that several of the plane's pods have. */}}
{{- define "granary.egressDns" -}}
# Names.
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.dnsNamespace }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{- define "granary.egressApiServer" -}}
# The API server, which no selector can name.
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.apiServerCIDRs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "granary.egressRegistry" -}}
# The registry.
- ports:
    - {port: {{ ternary 5432 .Values.registry.port .Values.registry.create }}, protocol: TCP}
  {{- if .Values.registry.create }}
  to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: granary-registry
  {{- else if .Values.networkPolicy.registryCIDRs }}
  to:
    {{- range .Values.networkPolicy.registryCIDRs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}


{{/* Version of the API of mutating admission policies, from Kubernetes 1.34; nothing where there is none. */}}
{{- define "granary.mutatingPolicies" -}}
{{- if .Values.admission.enabled -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1beta1
{{- end -}}
{{- end -}}
{{- end -}}
