metadata description = 'The Log Analytics workspace of a new environment. A separate module, so that it exists before other resources of the same deployment read it.'

@description('Name of the workspace.')
param workspaceName string

@description('Its region.')
param location string

@description('Its tags.')
param tags { *: string }

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
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
