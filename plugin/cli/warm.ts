#!/usr/bin/env node
import { start } from './start.js'

/* `node_modules/.bin/tooljet-embed-warm` */

await start('tooljet-embed-warm', 'there was no answer', async () => (await import('./warm/run.js')).run)
