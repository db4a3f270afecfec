{{- define "waldelta.labels" -}}
app.kubernetes.io/name: waldelta
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "waldelta.selector" -}}
app.kubernetes.io/name: waldelta
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The pod of a role: the two differ in what they do, how many there are, and what they may take. */}}
{{- define "waldelta.pod" -}}
{{- $hasTls := regexMatch "(?m)^\\s*(\\[server\\.tls\\]|tls\\s*=)" .root.Values.config }}
{{- if ne $hasTls .root.Values.encrypted }}
{{- fail "`encrypted` has to say whether `config` has [server.tls]: the probes would ask in vain" }}
{{- end }}
metadata:
  labels:
    {{- include "waldelta.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  annotations:
    # Another configuration is taken with new pods, one after the other.
    checksum/config: {{ .root.Values.config | sha256sum }}
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    # Keys are for root and this group: others must not read them.
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Two of a role on one machine would go with it.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "waldelta.selector" .root | nindent 10 }}
          app.kubernetes.io/component: {{ .role }}
  containers:
    - name: waldelta
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: ["run", "--role", "{{ .role }}"]
      # A variable, so that commands in the pod (kubectl exec) go by the same file.
      env:
        - name: WALDELTA_CONFIG
          value: /etc/waldelta/waldelta.toml
        # Where the probes and the services find it, whatever the configuration says.
        - name: WALDELTA_LISTEN
          value: 0.0.0.0:7654
      envFrom:
        - secretRef:
            name: {{ .root.Values.databaseSecret }}
      ports:
        - name: http
          containerPort: 7654
      # Whoever routes has heard that the pod ends before it does: one with few clients ends at once.
      lifecycle:
        preStop:
          sleep: { seconds: 5 }
      # It lives while it waits for a database: to end it then would help nobody.
      livenessProbe:
        httpGet: { path: /livez, port: http{{ if .root.Values.encrypted }}, scheme: HTTPS{{ end }} }
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: http{{ if .root.Values.encrypted }}, scheme: HTTPS{{ end }} }
        periodSeconds: 2
        failureThreshold: 1
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: ["ALL"]
      {{- with .resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/waldelta/waldelta.toml
          subPath: waldelta.toml
          readOnly: true
        {{- if .root.Values.filesSecret }}
        - name: files
          mountPath: /etc/waldelta/files
          readOnly: true
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ .root.Release.Name }}-waldelta
    {{- if .root.Values.filesSecret }}
    - name: files
      secret:
        secretName: {{ .root.Values.filesSecret }}
        defaultMode: 0440
    {{- end }}
{{- end }}
