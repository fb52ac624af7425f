import { readFileSync, writeFileSync } from 'node:fs'
import { report } from './report.js'
import type { Results } from './results.js'

/* `npm run bench:table`: puts the tables of results.json into README.md. */

const RESULTS = new URL('results.json', import.meta.url)
const README = new URL('README.md', import.meta.url)
const BETWEEN = /(<!-- results -->\n)[^]*(<!-- end of results -->)/

const results = JSON.parse(readFileSync(RESULTS, 'utf8')) as Results
const tables = report(results)
writeFileSync(README, readFileSync(README, 'utf8').replace(BETWEEN, (_, start: string, end: string) => `${start}\n${tables}\n${end}`))
