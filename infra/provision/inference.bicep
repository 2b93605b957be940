metadata name = 'nbtoolkit inference'
metadata description = 'An app that serves adapters from a file share. A parameter that is missing or null has its default.'

import { customDomain, ingressOptions } from 'modules/app.bicep'

// ---- the AI Toolkit's parameters, in its order

@description('Start commands of a custom server in the share\'s folder "inference"; they run while no release is deployed.')
@maxLength(100)
param defaultCommands string[]?

@description('Maximum number of replicas; 1 by default.')
@minValue(1)
@maxValue(300)
param maximumInstanceCount int?

@description('Region; the resource group\'s by default.')
@minLength(3)
@maxLength(60)
param location string?

@description('Name of the storage account.')
@minLength(3)
@maxLength(24)
param storageAccountName string?

@description('Name of the file share.')
@minLength(3)
@maxLength(63)
param fileShareName string?

@description('Name of the Container Apps environment.')
@minLength(2)
@maxLength(60)
param acaEnvironmentName string?

@description('Name of the share\'s storage definition in the environment.')
@minLength(2)
@maxLength(60)
param acaEnvironmentStorageName string?

@description('Name of the app.')
@minLength(2)
@maxLength(32)
param acaAppName string?

@description('Name of the Log Analytics workspace.')
@minLength(4)
@maxLength(63)
param acaLogAnalyticsName string?

// ---- machine and server

@description('The GPU profile: a serverless A100 (80 GB) or T4 (16 GB), a dedicated A100, or none for a trial on a CPU. A100 by default.')
param gpu ('A100' | 'T4' | 'dedicated-A100' | 'none')?

@description('Name of the workload profile in the environment; of an existing one if the environment exists.')
@minLength(1)
@maxLength(60)
param workloadProfileName string?

@description('The inference engine; transformers by default. Selects the image, and sets NBTOOLKIT_ENGINE.')
param engine ('transformers' | 'vllm')?

@description('Quantization of the weights, as NBTOOLKIT_QUANTIZATION for a custom server; releases contain their own.')
param quantization ('none' | 'nf4')?

@description('The base model, as NBTOOLKIT_BASE_MODEL for a custom server; releases contain their own.')
@minLength(1)
@maxLength(1024)
param baseModel string?

@description('Image of the container; the engine\'s by default. It needs python3: 3.12 for the wheels that come with nbtoolkit.')
@minLength(1)
@maxLength(512)
param containerImage string?

@description('Host name of a registry that requires a login, such as contoso.azurecr.io.')
@minLength(1)
@maxLength(255)
param registryServer string?

@description('User name for the registry.')
@minLength(1)
@maxLength(255)
param registryUsername string?

@description('Name of the secret that holds the registry\'s password. The container does not see it.')
@minLength(1)
@maxLength(253)
param registryPasswordSecret string?

@description('Instead of a password: resource id of a managed identity with pull access to the registry, or system for the app\'s own.')
@minLength(1)
@maxLength(1024)
param registryIdentity string?

// ---- scaling

@description('Replicas that always run; 0 by default: no machine is billed while there are no requests.')
@minValue(0)
@maxValue(300)
param minimumInstanceCount int?

@description('Requests per second, averaged over 15 s, for each replica; 4 by default.')
@minValue(1)
@maxValue(1000)
param concurrentRequests int?

@description('Seconds without a request until the last replica is stopped; 900 by default.')
@minValue(0)
@maxValue(86400)
param cooldownSeconds int?

@description('Seconds for running answers when a replica is stopped; 60 by default, at least the 30 that the server needs to drain.')
@minValue(30)
@maxValue(600)
param terminationGraceSeconds int?

// ---- environment, secrets and network

@description('Environment variables for the server.')
param environmentVariables { *: string }?

@description('Values of the secrets, by name: lower-case letters, digits and dashes. A secret my-token is MY_TOKEN in the container. Without them every deployment generates a new API key and removes all other secrets: in a manual deployment, pass the app\'s existing ones (az containerapp secret list --show-values).')
@secure()
param secrets { *: string } = { 'nbtoolkit-api-key': newGuid() }

@description('Names of all secrets: a secret that is not listed is not set. nbtoolkit-api-key by default.')
@minLength(1)
@maxLength(100)
param secretNames string[]?

@description('Address ranges that may reach the app, such as 203.0.113.0/24; all by default.')
@maxLength(100)
param allowedIpRanges string[]?

@description('Address ranges that may not reach the app, while all others may; not together with allowedIpRanges.')
@maxLength(100)
param deniedIpRanges string[]?

@description('Further ingress settings of an existing app, which are kept: CORS, client certificates, more ports, internal.')
param ingress ingressOptions?

@description('Number of inactive revisions that the app keeps; 100 by default.')
@minValue(0)
@maxValue(100)
param maxInactiveRevisions int?

@description('Custom domains of the app.')
@maxLength(100)
param customDomains customDomain[]?

@description('Tags of all created resources.')
param tags { *: string }?

@description('The workspace that creates: value of the tag nbtoolkit-workspace of created resources, by which a teardown finds them.')
@minLength(1)
@maxLength(64)
param createdBy string?

@description('Suffix of the app\'s new revision; generated by Azure by default.')
@minLength(1)
@maxLength(54)
param revisionSuffix string?

// ---- existing resources are referenced and never written

@description('Whether to create the storage account; true by default.')
param createStorage bool?

@description('Whether to create the file share; as createStorage by default.')
param createFileShare bool?

@description('Whether to create the Log Analytics workspace of a new environment; true by default.')
param createWorkspace bool?

@description('Whether to create the environment; true by default.')
param createEnvironment bool?

@description('Whether to connect the share to the environment; true by default.')
param createEnvironmentStorage bool?

var suffix = substring(uniqueString(resourceGroup().id), 0, 5)
#disable-next-line no-loc-expr-outside-params // a null in the parameter file means the group's region
var region = location ?? resourceGroup().location
var accountName = storageAccountName ?? 'aistorage${suffix}'
var shareName = fileShareName ?? 'aifileshare${suffix}'
var environmentName = acaEnvironmentName ?? 'aienv${suffix}'
var environmentStorageName = acaEnvironmentStorageName ?? 'aienvstorage${suffix}'
var appName = acaAppName ?? 'aiacaapp${suffix}'
var workspaceName = acaLogAnalyticsName ?? 'ailog${suffix}'

// All values that depend on the machine. One GPU per replica; a replica uses the whole machine.
var machines = {
  A100: { profile: 'gpu-a100', type: 'Consumption-GPU-NC24-A100', serverless: true, cpu: 24, memory: '220Gi' }
  T4: { profile: 'gpu-t4', type: 'Consumption-GPU-NC8as-T4', serverless: true, cpu: 8, memory: '56Gi' }
  'dedicated-A100': {
    profile: 'dedicated-a100'
    type: 'NC24-A100'
    serverless: false
    cpu: 24
    memory: '220Gi'
  }
  none: { profile: 'Consumption', type: 'Consumption', serverless: true, cpu: 4, memory: '8Gi' }
}
var machineName = gpu ?? 'A100'
var machine = machines[machineName]
var profileName = workloadProfileName ?? machine.profile
var maximum = maximumInstanceCount ?? 1
var counts = machine.serverless ? {} : { minimumCount: 0, maximumCount: maximum }
var consumption = [{ name: 'Consumption', workloadProfileType: 'Consumption' }]
var machineProfile = { name: profileName, workloadProfileType: machine.type, ...counts }

// As in nbtoolkit.container_runtime, whose wheels match them. PyTorch's image also runs on a CPU.
var images = {
  transformers: 'docker.io/pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime@sha256:6acf597eeb8e376a96580dde4952f37cc017fef732bb40bfc73f28f25e3f64b4'
  vllm: 'mcr.microsoft.com/aks/kaito/kaito-base:0.4.2'
}
var commands = defaultCommands ?? []
var createdTags = { ...(tags ?? {}), ...(empty(createdBy) ? {} : { 'nbtoolkit-workspace': createdBy! }) }
var engineName = engine ?? 'transformers'

module storage 'modules/storage.bicep' = {
  params: {
    accountName: accountName
    shareName: shareName
    location: region
    tags: createdTags
    createAccount: createStorage ?? true
    createShare: createFileShare ?? createStorage ?? true
  }
}

module workspace 'modules/workspace.bicep' = if ((createEnvironment ?? true) && (createWorkspace ?? true)) {
  params: {
    workspaceName: workspaceName
    location: region
    tags: createdTags
  }
}

module environment 'modules/environment.bicep' = {
  params: {
    environmentName: environmentName
    location: region
    tags: createdTags
    workloadProfiles: machineName == 'none' ? consumption : concat(consumption, [machineProfile])
    createEnvironment: createEnvironment ?? true
    workspaceName: workspaceName
    accountName: accountName
    shareName: shareName
    environmentStorageName: environmentStorageName
    createEnvironmentStorage: createEnvironmentStorage ?? true
  }
  dependsOn: [storage, workspace]
}

module app 'modules/app.bicep' = {
  params: {
    appName: appName
    location: region
    tags: tags ?? {}
    environmentName: environmentName
    environmentStorageName: environmentStorageName
    workloadProfileName: profileName
    cpu: machine.cpu
    memory: machine.memory
    image: containerImage ?? images[engineName]
    registry: empty(registryServer)
      ? null
      : {
          server: registryServer!
          username: registryUsername
          passwordSecretRef: registryPasswordSecret
          identity: registryIdentity
        }
    secrets: secrets
    secretNames: secretNames ?? ['nbtoolkit-api-key']
    environmentVariables: {
      NBTOOLKIT_DEFAULT_COMMANDS: ' ${string(commands)}' // a text that starts with [ would be read as an expression
      NBTOOLKIT_ENGINE: engineName
      NBTOOLKIT_QUANTIZATION: quantization ?? 'none'
      ...(empty(baseModel) ? {} : { NBTOOLKIT_BASE_MODEL: baseModel! })
      ...(environmentVariables ?? {})
    }
    scaling: {
      minReplicas: minimumInstanceCount ?? 0
      maxReplicas: maximum
      cooldownPeriod: cooldownSeconds ?? 900
      concurrentRequests: concurrentRequests ?? 4
    }
    terminationGraceSeconds: terminationGraceSeconds ?? 60
    allowedIpRanges: allowedIpRanges ?? []
    deniedIpRanges: deniedIpRanges ?? []
    ingress: ingress ?? {}
    maxInactiveRevisions: maxInactiveRevisions ?? 100
    customDomains: customDomains ?? []
    revisionSuffix: revisionSuffix
  }
  dependsOn: [environment]
}

@description('Id of the subscription.')
output SUBSCRIPTION_ID string = subscription().subscriptionId

@description('Name of the resource group.')
output RESOURCE_GROUP_NAME string = resourceGroup().name

@description('Name of the storage account.')
output STORAGE_ACCOUNT_NAME string = accountName

@description('Name of the file share.')
output FILE_SHARE_NAME string = shareName

@description('Name of the app.')
output ACA_APP_NAME string = appName

@description('Host name of the app, without https://.')
output ACA_APP_ENDPOINT string = app.outputs.host
