{{/*
What a chart of yours puts into the pods of its API, given this chart's scope (`.Subcharts.unstale`):

  metadata:
    labels: {{- include "unstale.labels" .Subcharts.unstale | nindent 8 }}
    annotations: {{- include "unstale.annotations" .Subcharts.unstale | nindent 8 }}
  spec:
    initContainers: {{- include "unstale.sidecar" .Subcharts.unstale | nindent 8 }}
    volumes: {{- include "unstale.volumes" .Subcharts.unstale | nindent 8 }}
*/}}

{{- define "unstale.name" -}}
{{ printf "%s-unstale" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The Secret with the password; empty if there is none. */ -}}
{{- define "unstale.secret" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.existingSecret }}{{ else if .Values.redis.password }}{{ include "unstale.name" . }}{{ end }}
{{- end }}

{{- /* By these the PodMonitor finds the pods. */ -}}
{{- define "unstale.labels" -}}
unstale-sidecar: {{ .Release.Name | quote }}
{{- end }}

{{- /* A new configuration is read at the next start, so it makes new pods. */ -}}
{{- define "unstale.annotations" -}}
checksum/unstale: {{ printf "%s\n%s" .Values.config .Values.redis.password | sha256sum }}
{{- end }}

{{- /* An init container that restarts: it starts before the API, and is told to stop when that has ended. */ -}}
{{- define "unstale.sidecar" -}}
{{- if and .Values.redis.username (not (include "unstale.secret" .)) }}
{{- fail "redis.username needs a password: set redis.existingSecret, or redis.password" }}
{{- end }}
- name: unstale
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  env:
    - name: REDIS_URL
      value: {{ .Values.redis.url | quote }}
    {{- with .Values.redis.username }}
    - name: UNSTALE__REDIS__MAIN__USERNAME
      value: {{ . | quote }}
    {{- end }}
    {{- if include "unstale.secret" . }}
    - name: UNSTALE__REDIS__MAIN__PASSWORD_FILE
      value: /run/secrets/unstale/{{ .Values.redis.secretKey }}
    {{- end }}
    {{- with .Values.presets }}
    - name: UNSTALE__PRESETS
      value: {{ join "," . | quote }}
    {{- end }}
    - name: UNSTALE__HTTP__PROBE_BIND
      value: "{{ .Values.probeHost }}:{{ .Values.probePort }}"
    # The pod's name tells instances apart in logs and on the page.
    - name: UNSTALE__INSTANCE__NAME
      valueFrom: { fieldRef: { fieldPath: metadata.name } }
    - name: UNSTALE__LOG__FORMAT
      value: json
    {{- with .Values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - { name: unstale, containerPort: {{ .Values.probePort }} }
  # The API starts as soon as the process works, also while Redis is down: it then finds no notices, and knows what that means.
  startupProbe:
    httpGet: { path: /healthz, port: unstale }
    periodSeconds: 1
    failureThreshold: 30
  # Fails if the loop is stuck, not if Redis is down: a restart mends only the one.
  livenessProbe:
    httpGet: { path: /healthz, port: unstale }
    periodSeconds: 10
    timeoutSeconds: 3
  # From the first connection to Redis on.
  readinessProbe:
    httpGet: { path: /readyz, port: unstale }
    periodSeconds: 5
    timeoutSeconds: 3
  resources: {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities: { drop: [ALL] }
    seccompProfile: { type: RuntimeDefault }
  volumeMounts:
    - { name: unstale-config, mountPath: /etc/unstale, readOnly: true }
    {{- if include "unstale.secret" . }}
    - { name: unstale-secret, mountPath: /run/secrets/unstale, readOnly: true }
    {{- end }}
{{- end }}

{{- define "unstale.volumes" -}}
- name: unstale-config
  configMap: { name: {{ include "unstale.name" . }} }
{{- with include "unstale.secret" . }}
- name: unstale-secret
  secret: { secretName: {{ . }} }
{{- end }}
{{- end }}
