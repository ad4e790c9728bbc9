// Built once a test run. The folder's node_modules lie above it.
import { fileURLToPath } from 'node:url';

export default { turbopack: { root: fileURLToPath(new URL('..', import.meta.url)) } };
