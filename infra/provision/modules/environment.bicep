metadata description = 'The Container Apps environment with its machines, its logs and its door to the share.'

@description('One kind of machine; serverless ones carry no counts.')
@sealed()
type workloadProfile = {
  @description('Name that apps ask for it by.')
  name: string

  @description('Type of the machine in Azure.')
  workloadProfileType: string

  @description('Machines that always run.')
  minimumCount: int?

  @description('Machines that may run at once.')
  maximumCount: int?
}

@description('Name of the environment.')
param environmentName string

@description('Region of a new environment.')
param location string

@description('Tags of what is created here.')
param tags { *: string }

@description('Machines of a new environment.')
param workloadProfiles workloadProfile[]

@description('Whether to create the environment; an existing one is not touched.')
param createEnvironment bool

@description('Name of the Log Analytics workspace for a new environment.')
param workspaceName string

@description('Whether to create the workspace; an existing one is not touched.')
param createWorkspace bool

@description('Name of the storage account, which is in the same resource group.')
param accountName string

@description('Name of the file share.')
param shareName string

@description('Name that apps mount the share by.')
param environmentStorageName string

@description('Whether to connect the share; an existing connection is not touched.')
param createEnvironmentStorage bool

resource account 'Microsoft.Storage/storageAccounts@2026-09-01' existing = {
  name: accountName
}

resource newWorkspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = if (createWorkspace) {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    retentionInDays: 30
    sku: {
      name: 'PerGB2018'
    }
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource environment 'Microsoft.App/managedEnvironments@2026-07-01' = if (createEnvironment) {
  name: environmentName
  location: location
  tags: tags
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: workspace.properties.customerId
        sharedKey: workspace.listKeys().primarySharedKey
      }
    }
    workloadProfiles: workloadProfiles
    zoneRedundant: false
  }
  dependsOn: [newWorkspace]
}

resource environmentStorage 'Microsoft.App/managedEnvironments/storages@2026-07-01' = if (createEnvironmentStorage) {
  parent: environment
  name: environmentStorageName
  properties: {
    azureFile: {
      accessMode: 'ReadWrite'
      accountKey: account.listKeys().keys[0].value
      accountName: accountName
      shareName: shareName
    }
  }
}
