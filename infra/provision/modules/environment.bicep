metadata description = 'The Container Apps environment with its workload profiles, its logs and its connection to the share.'

@description('A workload profile; serverless ones have no counts.')
@sealed()
type workloadProfile = {
  @description('Name by which apps select it.')
  name: string

  @description('Type of the machine in Azure.')
  workloadProfileType: string

  @description('Machines that always run.')
  minimumCount: int?

  @description('Maximum number of machines.')
  maximumCount: int?
}

@description('Name of the environment.')
param environmentName string

@description('Region of a new environment.')
param location string

@description('Tags of created resources.')
param tags { *: string }

@description('Workload profiles of a new environment.')
param workloadProfiles workloadProfile[]

@description('Whether to create the environment; an existing one is not touched.')
param createEnvironment bool

@description('Name of the Log Analytics workspace for a new environment; it must exist.')
param workspaceName string

@description('Name of the storage account, which is in the same resource group.')
param accountName string

@description('Name of the file share.')
param shareName string

@description('Name by which apps mount the share.')
param environmentStorageName string

@description('Whether to connect the share; an existing connection is not touched.')
param createEnvironmentStorage bool

// Azure evaluates list functions even in resources that it does not deploy: both are called only if needed.
resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = if (createEnvironment) {
  name: workspaceName
}

resource account 'Microsoft.Storage/storageAccounts@2026-09-01' existing = if (createEnvironmentStorage) {
  name: accountName
}

resource environment 'Microsoft.App/managedEnvironments@2026-07-01' = if (createEnvironment) {
  name: environmentName
  location: location
  tags: tags
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: createEnvironment ? workspace!.properties.customerId : ''
        sharedKey: createEnvironment ? workspace!.listKeys().primarySharedKey : ''
      }
    }
    workloadProfiles: workloadProfiles
    zoneRedundant: false
  }
}

resource environmentStorage 'Microsoft.App/managedEnvironments/storages@2026-07-01' = if (createEnvironmentStorage) {
  parent: environment
  name: environmentStorageName
  properties: {
    azureFile: {
      accessMode: 'ReadWrite'
      accountKey: createEnvironmentStorage ? account!.listKeys().keys[0].value : ''
      accountName: accountName
      shareName: shareName
    }
  }
}
