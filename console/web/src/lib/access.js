// Which roles may do what, for hiding what a person may not do. The server
// decides; the build compares these rows with its table.
const readers = ['engineer', 'security', 'noc', 'auditor'];
const everyone = ['admin', ...readers];

export const access = {
  'get-summary': everyone,
  'list-units': everyone,
  'list-users': ['admin', 'auditor'],
  'create-user': ['admin'],
  'update-user': ['admin'],
  'list-audit': ['admin', 'security', 'auditor'],
  'list-sites': readers,
  'list-devices': readers,
  'list-certificates': readers,
  'list-revisions': readers,
  'list-rollouts': readers,
  'list-incidents': readers,
  'list-findings': readers,
  'get-series': readers,
  'create-revision': ['engineer'],
  'approve-revision': ['engineer', 'security'],
  'start-rollout': ['engineer'],
  'resume-rollout': ['engineer'],
  'pause-rollout': ['engineer', 'noc'],
  'abort-rollout': ['engineer', 'noc'],
  'ack-incident': ['noc', 'engineer'],
  'assign-incident': ['noc', 'engineer'],
  'resolve-incident': ['noc', 'engineer'],
  'list-decisions': ['security', 'auditor'],
  'revoke-certificate': ['security'],
};
