{{/* What the schema cannot say. Each message names the value and what to do. */}}
{{- define "lookalike.check" -}}
{{- $values := .Values -}}
{{- if and (not $values.tls.enabled) (not $values.insecure) -}}
{{- fail "tls.enabled is false: set it, with tls.secretName, or set insecure: true where a mesh or a proxy encrypts" -}}
{{- end -}}
{{- if and $values.tls.enabled (not $values.tls.secretName) -}}
{{- fail "tls.secretName is empty: name a secret of type kubernetes.io/tls, or set tls.enabled: false and insecure: true" -}}
{{- end -}}
{{- if and $values.tls.clientCaSecretName (not $values.tls.enabled) -}}
{{- fail "tls.clientCaSecretName needs TLS: set tls.enabled: true" -}}
{{- end -}}
{{- if and $values.tls.clientCaSecretName (not $values.metrics.enabled) -}}
{{- fail "tls.clientCaSecretName needs metrics.enabled: true: probes have no client certificate, and ask over HTTP then" -}}
{{- end -}}
{{- if not (or $values.auth.keysSecretName $values.auth.jwksConfigMapName $values.tls.clientCaSecretName $values.allowAnonymous) -}}
{{- fail "nobody would need a key: set auth.keysSecretName, auth.jwksConfigMapName or tls.clientCaSecretName, or set allowAnonymous: true" -}}
{{- end -}}
{{- if and $values.auth.jwksConfigMapName (not (get $values.settings "jwt_audience")) -}}
{{- fail "auth.jwksConfigMapName needs settings.jwt_audience: what the tokens' claim aud has for this server" -}}
{{- end -}}
{{- if and (eq $values.model.source "init") (not $values.model.init.image) -}}
{{- fail "model.source is init: set model.init.image and model.init.command, which write the model folder to /model" -}}
{{- end -}}
{{- if and (eq $values.model.source "volume") (not $values.model.volume) (not $values.model.claimName) -}}
{{- fail "model.source is volume: set model.claimName, or model.volume" -}}
{{- end -}}
{{- if and (or $values.metrics.serviceMonitor.enabled $values.metrics.prometheusRule.enabled) (not $values.metrics.enabled) -}}
{{- fail "metrics.serviceMonitor and metrics.prometheusRule need metrics.enabled: true" -}}
{{- end -}}
{{- if eq (int $values.metrics.port) 50051 -}}
{{- fail "metrics.port is 50051, where calls go: choose another one" -}}
{{- end -}}
{{- range $values.extraEnv -}}
{{- if hasPrefix "LOOKALIKE_" .name -}}
{{- fail (printf "extraEnv: %s is a setting of the server: write it under settings, as %s; what settings does not take has a value of its own" .name (.name | trimPrefix "LOOKALIKE_" | lower)) -}}
{{- end -}}
{{- end -}}
{{- $owned := include "lookalike.owned" . | splitList " " -}}
{{- range $values.extraArgs -}}
{{- $name := regexFind "^--[a-z0-9-]+" . | trimPrefix "--" | replace "-" "_" -}}
{{- if has $name $owned -}}
{{- fail (printf "extraArgs: %s is set by the chart: use the value that it has for it" .) -}}
{{- end -}}
{{- if or (hasKey $values.settings $name) (has $name (list "lame_duck_seconds" "shutdown_grace_seconds")) -}}
{{- fail (printf "extraArgs: %s would override settings.%s: write it there" . $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings that other values set. */}}
{{- define "lookalike.owned" -}}
model data_dir listen tls_certificate_file tls_key_file tls_client_ca_file insecure allow_anonymous auth_keys_file jwt_jwks_file quotas_file metrics_listen
{{- end -}}
