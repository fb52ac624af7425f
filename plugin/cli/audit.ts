#!/usr/bin/env node
import { start } from './start.js'

/* `node_modules/.bin/tooljet-embed-audit` */

await start('tooljet-embed-audit', 'Redis gave no answer', async () => (await import('./audit/run.js')).run)
