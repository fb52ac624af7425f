import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { t as tap, test } from 'tap'
import { ToolJetStandIn } from '../../example/tooljet/server.js'
import { SALES } from '../../example/tooljet/seed.js'
import { tryHost } from '../package/host.js'
import { builtPackage } from '../support/cli.js'
import { blocksOf } from '../support/markdown.js'
import { plainEnv } from '../support/plain-env.js'
import { API_TOKEN, JWT_SECRET, newPrefix, releaseRedisAfter } from '../support/portal.js'
import { sharedRedisUrl } from '../support/redis.js'

/*
 * Hosts that a bundler has put into one file, as docs/hosts.md has it, started in a folder with nothing besides: they serve
 * URLs and the page's module. check:package does the same with webpack and rollup.
 */

releaseRedisAfter(tap)

/** The first block of a page that has this text. */
function block (doc: string, text: string): string {
  return blocksOf(doc).find(({ code }) => code.includes(text))!.code
}

/** How each bundler is run, in a folder with a host in ESM and one in CommonJS. */
const BUNDLERS = {
  'esbuild, ESM': { build: block('docs/hosts.md', "from 'esbuild'"), hasDashboard: true },
  'esbuild, CommonJS': { build: "import { build } from 'esbuild'\nawait build({ entryPoints: ['host.cjs'], bundle: true, platform: 'node', outfile: 'out/host.cjs' })", hasDashboard: false },
  'Vite (Rolldown)': { build: block('docs/hosts.md', "from 'vite'"), hasDashboard: true },
}

for (const [name, { build, hasDashboard }] of Object.entries(BUNDLERS)) {
  test(`one file out of ${name}`, { timeout: 120_000 }, async (t) => {
    const built = builtPackage()
    for (const [file, code] of [['build.mjs', build], ['host.ts', block('README.md', 'logger: true')], ['host.cjs', block('README.md', 'require(')]] as const) writeFileSync(join(built, file), code)
    rmSync(join(built, 'out'), { recursive: true, force: true })
    await promisify(execFile)(process.execPath, ['build.mjs'], { cwd: built, env: plainEnv() })
    const cwd = mkdtempSync(join(tmpdir(), 'tooljet-embed-bundle-'))
    t.teardown(() => rmSync(cwd, { recursive: true }))
    cpSync(join(built, 'out'), cwd, { recursive: true })
    const files = readdirSync(cwd)
    t.equal(files.length, 1)

    const email = `${newPrefix().replace(/\W/g, '')}@acme.test` // nobody has a URL yet
    const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN, seed: { apps: [SALES], users: [{ email, apps: [SALES.slug] }] } }).listen()
    t.teardown(() => toolJet.close())
    await tryHost({
      cwd,
      node: process.execPath,
      args: files,
      email,
      hasDashboard,
      env: { TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: await sharedRedisUrl(), JWT_SECRET },
    })
  })
}
