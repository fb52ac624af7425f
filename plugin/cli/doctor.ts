#!/usr/bin/env node
import { start } from './start.js'

/* `node_modules/.bin/tooljet-embed-doctor` */

await start('tooljet-embed-doctor', 'there was no answer', async () => (await import('./doctor/run.js')).run)
