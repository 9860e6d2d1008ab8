// English; the other language has the same keys, which the build checks.
import access from './en/access.js';
import boot from './en/boot.js';
import control from './en/control.js';
import network from './en/network.js';
import watch from './en/watch.js';

export default { ...watch, ...network, ...control, ...boot, ...access };
