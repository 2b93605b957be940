metadata description = 'The app: one container that runs what the share says.'

@description('A registry to pull the image from; with a password out of the secrets, or with an identity.')
@sealed()
type registrySignIn = {
  @description('Host name of the registry.')
  server: string

  @description('User name, beside a password.')
  username: string?

  @description('Name of the secret that holds the password.')
  passwordSecretRef: string?

  @description('Resource id of a managed identity that may pull, or system.')
  identity: string?
}

@description('A domain of your own.')
@export()
@sealed()
type customDomain = {
  @description('The domain.')
  name: string

  @description('How it is bound.')
  bindingType: 'Auto' | 'Disabled' | 'SniEnabled'

  @description('Resource id of its certificate.')
  certificateId: string?
}

@description('Which web pages of other hosts may call the app.')
@sealed()
type crossOrigin = {
  @description('Hosts of the pages.')
  allowedOrigins: string[]

  @description('Methods that they may use.')
  allowedMethods: string[]?

  @description('Headers that they may send.')
  allowedHeaders: string[]?

  @description('Headers that they may see.')
  exposeHeaders: string[]?

  @description('Seconds for which a browser remembers it.')
  maxAge: int?

  @description('Whether they may send cookies.')
  allowCredentials: bool?
}

@description('One more port.')
@sealed()
type portMapping = {
  @description('Whether it is reached from outside of the environment.')
  external: bool

  @description('Port of the container.')
  targetPort: int

  @description('Port that callers use; as targetPort by default.')
  exposedPort: int?
}

@description('What an entrance may have beside what the server needs; as Azure takes it.')
@export()
@sealed()
type ingressOptions = {
  @description('Whether the app is reached from outside of its environment; true by default.')
  external: bool?

  @description('Whether callers show a certificate.')
  clientCertificateMode: 'accept' | 'ignore' | 'require'?

  @description('Which web pages may call the app.')
  corsPolicy: crossOrigin?

  @description('More ports.')
  additionalPortMappings: portMapping[]?
}

@description('How many replicas there may be, and when.')
@sealed()
type scale = {
  @description('Replicas that always run.')
  minReplicas: int

  @description('Replicas that may run at once.')
  maxReplicas: int

  @description('Seconds without a request until the last replica goes.')
  cooldownPeriod: int

  @description('Requests a second, over 15 s, for which one replica is enough.')
  concurrentRequests: int
}

@description('Name of the app.')
param appName string

@description('Region of the environment.')
param location string

@description('Tags of the app.')
param tags { *: string }

@description('Name of the environment, which is in the same resource group.')
param environmentName string

@description('Name that the environment knows the share by.')
param environmentStorageName string

@description('Name of the kind of machine in the environment.')
param workloadProfileName string

@description('Whole processors of the container.')
param cpu int

@description('Memory of the container, such as 220Gi.')
param memory string

@description('Image of the container.')
param image string

@description('The registry, where it needs a sign-in.')
param registry registrySignIn?

@description('Values of the secrets, by name.')
@secure()
param secrets { *: string }

@description('Names of the secrets.')
param secretNames string[]

@description('Plain environment variables.')
param environmentVariables { *: string }

@description('Replicas.')
param scaling scale

@description('Seconds that running answers have when a replica goes.')
param terminationGraceSeconds int

@description('Address ranges that may reach the app; empty for all.')
param allowedIpRanges string[]

@description('Address ranges that may not; empty for none.')
param deniedIpRanges string[]

@description('More of the entrance.')
param ingress ingressOptions

@description('Former revisions to keep.')
param maxInactiveRevisions int

@description('Domains of your own.')
param customDomains customDomain[]

@description('Suffix of the revision; null lets Azure choose.')
param revisionSuffix string?

var port = 7860
var probePort = 7861 // a server of the user's own, at the other port, knows nothing of our probes
var mount = '/mount'
var ours = {
  NBTOOLKIT_MOUNT: mount
  NBTOOLKIT_PORT: string(port)
  NBTOOLKIT_PROBE_PORT: string(probePort)
}
var puller = registry.?identity ?? ''
// Azure takes the one kind of rule or the other
var restrictions = [
  ...map(range(0, length(allowedIpRanges)), index => {
    name: 'allowed-${index}'
    action: 'Allow'
    ipAddressRange: allowedIpRanges[index]
  })
  ...map(range(0, length(deniedIpRanges)), index => {
    name: 'denied-${index}'
    action: 'Deny'
    ipAddressRange: deniedIpRanges[index]
  })
]
var shownSecrets = filter(secretNames, name => name != registry.?passwordSecretRef)

resource environment 'Microsoft.App/managedEnvironments@2026-07-01' existing = {
  name: environmentName
}

resource app 'Microsoft.App/containerApps@2026-07-01' = {
  name: appName
  location: location
  tags: tags
  identity: empty(puller)
    ? null
    : puller == 'system'
        ? { type: 'SystemAssigned' }
        : { type: 'UserAssigned', userAssignedIdentities: { '${puller}': {} } }
  properties: {
    environmentId: environment.id
    workloadProfileName: workloadProfileName
    configuration: {
      activeRevisionsMode: 'Single'
      maxInactiveRevisions: maxInactiveRevisions
      ingress: {
        allowInsecure: false
        customDomains: customDomains
        external: true
        ipSecurityRestrictions: restrictions
        stickySessions: { affinity: 'sticky' } // the chat page keeps its queue in one replica
        targetPort: port
        traffic: [{ latestRevision: true, weight: 100 }]
        transport: 'auto'
        ...ingress
      }
      registries: registry == null ? [] : [registry!]
      secrets: map(secretNames, name => { name: name, value: secrets[name] })
    }
    template: {
      revisionSuffix: revisionSuffix
      terminationGracePeriodSeconds: terminationGraceSeconds
      containers: [
        {
          name: 'inference'
          image: image
          command: ['python3', '-u', '-c', loadTextContent('../bootstrap.py')]
          env: concat(
            map(items({ ...environmentVariables, ...ours }), entry => { name: entry.key, value: entry.value }),
            map(shownSecrets, name => { name: toUpper(replace(name, '-', '_')), secretRef: name })
          )
          probes: [
            {
              // until it has passed, the others do not count: up to 100 s for Python to answer
              type: 'Startup'
              httpGet: { path: '/health', port: probePort }
              initialDelaySeconds: 1
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 10
            }
            {
              // the front takes the port over from the bootstrap, which leaves a gap of seconds
              type: 'Liveness'
              httpGet: { path: '/health', port: probePort }
              periodSeconds: 10
              timeoutSeconds: 10
              failureThreshold: 6
            }
            {
              type: 'Readiness'
              httpGet: { path: '/ready', port: probePort }
              periodSeconds: 5
              timeoutSeconds: 5
              successThreshold: 1
              failureThreshold: 3
            }
          ]
          resources: { cpu: cpu, memory: memory }
          volumeMounts: [{ volumeName: 'share', mountPath: mount }]
        }
      ]
      scale: {
        minReplicas: scaling.minReplicas
        maxReplicas: scaling.maxReplicas
        cooldownPeriod: scaling.cooldownPeriod
        rules: [
          {
            name: 'http'
            http: { metadata: { concurrentRequests: string(scaling.concurrentRequests) } }
          }
        ]
      }
      volumes: [
        {
          name: 'share'
          storageType: 'AzureFile'
          storageName: environmentStorageName
          // a new pointer is seen within a second instead of 30; byte-range locks would cross the network
          mountOptions: 'actimeo=1,closetimeo=0,mfsymlinks,nobrl'
        }
      ]
    }
  }
}

@description('Host name of the app, without https://.')
output host string = app.properties.configuration.ingress.fqdn
