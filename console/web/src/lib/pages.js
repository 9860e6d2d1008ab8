import Account from '../pages/Account.svelte';
import Audit from '../pages/Audit.svelte';
import Basket from '../pages/Basket.svelte';
import Baskets from '../pages/Baskets.svelte';
import Decision from '../pages/Decision.svelte';
import Decisions from '../pages/Decisions.svelte';
import Device from '../pages/Device.svelte';
import Devices from '../pages/Devices.svelte';
import Drift from '../pages/Drift.svelte';
import Drifts from '../pages/Drifts.svelte';
import Incident from '../pages/Incident.svelte';
import Incidents from '../pages/Incidents.svelte';
import Overview from '../pages/Overview.svelte';
import People from '../pages/People.svelte';
import Profile from '../pages/Profile.svelte';
import Profiles from '../pages/Profiles.svelte';
import Revision from '../pages/Revision.svelte';
import Revisions from '../pages/Revisions.svelte';
import Rollout from '../pages/Rollout.svelte';
import Rollouts from '../pages/Rollouts.svelte';
import Router from '../pages/Router.svelte';
import Routers from '../pages/Routers.svelte';
import Unit from '../pages/Unit.svelte';

// Each page: its list, its detail, the operation one must be allowed to use.
// Those with a menu entry name the menu's group.
export const pages = {
  '': { list: Overview, needs: 'get-summary', menu: 'watch' },
  incidents: { list: Incidents, detail: Incident, needs: 'list-incidents', menu: 'watch' },
  devices: { list: Devices, detail: Device, needs: 'list-devices', menu: 'network' },
  routers: { list: Routers, detail: Router, needs: 'list-routers', menu: 'network' },
  units: { list: Devices, detail: Unit, needs: 'list-units' },
  profiles: { list: Profiles, detail: Profile, needs: 'get-inventory', menu: 'network' },
  baskets: { list: Baskets, detail: Basket, needs: 'list-baskets', menu: 'network' },
  revisions: { list: Revisions, detail: Revision, needs: 'list-revisions', menu: 'network' },
  rollouts: { list: Rollouts, detail: Rollout, needs: 'list-rollouts', menu: 'network' },
  drifts: { list: Drifts, detail: Drift, needs: 'list-drifts', menu: 'network' },
  decisions: { list: Decisions, detail: Decision, needs: 'list-decisions', menu: 'security' },
  audit: { list: Audit, needs: 'list-audit', menu: 'security' },
  people: { list: People, needs: 'list-users', menu: 'people' },
  account: { list: Account, needs: 'get-summary', menu: 'people' },
};
