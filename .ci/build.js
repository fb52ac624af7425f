// `npm run build`: everything that the package ships, in dist/.
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { buildClient } from './build-client.js'

process.chdir(join(import.meta.dirname, '..'))
rmSync('dist', { recursive: true, force: true })

const typescript = dirname(createRequire(import.meta.url).resolve('@typescript/native/package.json'))
for (const project of ['plugin', 'plugin/client']) {
  execFileSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', project], { stdio: 'inherit' })
}
buildClient()
