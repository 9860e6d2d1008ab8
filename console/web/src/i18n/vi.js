// Tiếng Việt; the other language has the same keys, which the build checks.
import access from './vi/access.js';
import boot from './vi/boot.js';
import control from './vi/control.js';
import network from './vi/network.js';
import watch from './vi/watch.js';

export default { ...watch, ...network, ...control, ...boot, ...access };
