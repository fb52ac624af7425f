// What `npm start` runs: plain JavaScript, for a Node.js that is too old has to read it to say so.
const { existsSync } = require('node:fs')
const { join } = require('node:path')
const { engines } = require('../package.json')

const [major, minor] = process.versions.node.split('.').map(Number)
const [neededMajor, neededMinor] = /\d+\.\d+/.exec(engines.node)[0].split('.').map(Number)

if (major < neededMajor || (major === neededMajor && minor < neededMinor)) {
  console.error('The example needs Node.js ' + engines.node + ', and this is ' + process.versions.node + ': install a newer one from https://nodejs.org.')
  process.exitCode = 1
} else {
  Promise.all([import('tsx/esm/api'), import('../.ci/build-client.js')]).then(([{ register }, { buildClient }]) => {
    try {
      buildClient()
    } catch (error) {
      if (!existsSync(join(__dirname, '../dist/browser/tooljet-embed.js'))) throw error // else: who may not write here has got it from somebody
    }
    register()
    return import('./start.ts')
  })
}
