metadata description = 'The file share for adapters, models and code, and its storage account.'

@description('Name of the storage account.')
param accountName string

@description('Name of the file share.')
param shareName string

@description('Region of a new account.')
param location string

@description('Tags of a new account.')
param tags { *: string }

@description('Whether to create the account; an existing one is not touched.')
param createAccount bool

@description('Whether to create the share; an existing one is not touched.')
param createShare bool

resource account 'Microsoft.Storage/storageAccounts@2026-09-01' = if (createAccount) {
  name: accountName
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: true // Container Apps mounts a share with the account key only
    largeFileSharesState: 'Enabled' // up to 300 MiB/s instead of 60: models load faster
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource files 'Microsoft.Storage/storageAccounts/fileServices@2026-09-01' = if (createAccount) {
  parent: account
  name: 'default'
  properties: {
    shareDeleteRetentionPolicy: {
      enabled: true
      days: 7
    }
  }
}

resource share 'Microsoft.Storage/storageAccounts/fileServices/shares@2026-09-01' = if (createShare) {
  parent: files
  name: shareName
  properties: {
    enabledProtocols: 'SMB'
    shareQuota: 1024 // GiB; only used space is billed
  }
}
