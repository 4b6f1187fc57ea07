{{/* The environment: the settings that values set, then those of .Values.settings. */}}
{{- define "lookalike.environment" -}}
- {name: LOOKALIKE_MODEL, value: /model}
# A folder of its own in the volume, which the server makes with mode 0700.
- {name: LOOKALIKE_DATA_DIR, value: /data/catalog}
- {name: LOOKALIKE_LISTEN, value: "0.0.0.0:50051"}
{{- if .Values.tls.enabled }}
- {name: LOOKALIKE_TLS_CERTIFICATE_FILE, value: /etc/lookalike/tls/tls.crt}
- {name: LOOKALIKE_TLS_KEY_FILE, value: /etc/lookalike/tls/tls.key}
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
- {name: LOOKALIKE_TLS_CLIENT_CA_FILE, value: /etc/lookalike/client-ca/ca.crt}
{{- end }}
{{- if .Values.insecure }}
- {name: LOOKALIKE_INSECURE, value: "true"}
{{- end }}
{{- if .Values.auth.keysSecretName }}
- {name: LOOKALIKE_AUTH_KEYS_FILE, value: /etc/lookalike/keys/keys.json}
{{- end }}
{{- if .Values.auth.jwksConfigMapName }}
- {name: LOOKALIKE_JWT_JWKS_FILE, value: /etc/lookalike/jwks/jwks.json}
{{- end }}
{{- if .Values.allowAnonymous }}
- {name: LOOKALIKE_ALLOW_ANONYMOUS, value: "true"}
{{- end }}
{{- if .Values.quotas }}
- {name: LOOKALIKE_QUOTAS_FILE, value: /etc/lookalike/quotas/quotas.toml}
{{- end }}
{{- if .Values.metrics.enabled }}
- {name: LOOKALIKE_METRICS_LISTEN, value: {{ printf "0.0.0.0:%d" (int .Values.metrics.port) | quote }}}
{{- end }}
{{- if and .Values.gpu.enabled (not (hasKey .Values.settings "provider")) }}
# A GPU that cannot be used is an error then, and not a server on the CPU.
- {name: LOOKALIKE_PROVIDER, value: cuda}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- $whole := and (kindIs "float64" $value) (eq (floor $value) $value) }}
- {name: LOOKALIKE_{{ upper $name }}, value: {{ ternary (int64 $value | toString) (toString $value) $whole | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The lame duck, the grace of calls, and 8 s to write the index and close the catalog. */}}
{{- define "lookalike.graceSeconds" -}}
{{- $settings := .Values.settings -}}
{{- $lameDuck := ternary (get $settings "lame_duck_seconds") 2 (hasKey $settings "lame_duck_seconds") -}}
{{- $grace := ternary (get $settings "shutdown_grace_seconds") 20 (hasKey $settings "shutdown_grace_seconds") -}}
{{- addf $lameDuck $grace 8 | ceil | int -}}
{{- end -}}

{{/* What a probe asks: (list context "liveness"). gRPC's probes speak no TLS; with it HTTP, else the container itself. */}}
{{- define "lookalike.probe" -}}
{{- $values := (index . 0).Values -}}
{{- $name := index . 1 -}}
{{- if not $values.tls.enabled -}}
grpc: {port: 50051, service: {{ $name }}}
{{- else if $values.metrics.enabled -}}
httpGet: {port: metrics, path: {{ ternary "/healthz" "/readyz" (eq $name "liveness") }}}
{{- else -}}
exec: {command: [lookalike-server, health, --service, {{ $name }}, --timeout, "8"]}
{{- end -}}
{{- end -}}

{{/* Asking itself takes a process of its own and half a second of a core, so it is done less often: (list context seconds). */}}
{{- define "lookalike.probePeriod" -}}
{{- $values := (index . 0).Values -}}
{{- $asksItself := and $values.tls.enabled (not $values.metrics.enabled) -}}
{{- ternary (max 10 (index . 1)) (index . 1) $asksItself -}}
{{- end -}}

{{- define "lookalike.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
