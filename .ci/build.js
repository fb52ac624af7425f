// `npm run build`: everything that the package ships, in dist/.
import { execFileSync } from 'node:child_process'
import { copyFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

process.chdir(join(import.meta.dirname, '..'))
rmSync('dist', { recursive: true, force: true })

const typescript = dirname(createRequire(import.meta.url).resolve('@typescript/native/package.json'))
execFileSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', 'plugin/tsconfig.json'], { stdio: 'inherit' })

// the audit queries: beside the code that reads them, and as a file for `redis-cli -x FUNCTION LOAD`
copyFileSync('plugin/audit/queries.lua', 'dist/audit/queries.lua')
const { LIBRARY } = await import('../dist/audit/library.js')
writeFileSync('dist/tooljet_embed.lua', LIBRARY)
