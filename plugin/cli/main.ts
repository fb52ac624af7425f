#!/usr/bin/env node
import { start } from './process.js'

/* `node_modules/.bin/tooljet-embed-audit` */

await start('tooljet-embed-audit', 'Redis gave no answer', async () => (await import('./run.js')).run)
