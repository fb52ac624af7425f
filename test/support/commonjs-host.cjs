'use strict'

/* A CommonJS host: loads the built package by its name. Argument: JSON of the plugin's options. */

const Fastify = require('fastify')
const fastifyJwt = require('@fastify/jwt')
const tooljetEmbed = require('fastify-tooljet-embed')

const app = Fastify()
app.register(fastifyJwt, { secret: 'x'.repeat(32) })
app.register(tooljetEmbed, JSON.parse(process.argv[2]))
app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appSlug: 'sales' } }, async (error, anonymous) => {
  if (error) throw error
  const authorization = `Bearer ${app.jwt.sign({ email: 'ana@acme.test' })}`
  const signedIn = await app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appSlug: 'sales' }, headers: { authorization } })
  const { default: byDefault, tooljetEmbed: byName, errorCodes } = tooljetEmbed
  console.log(JSON.stringify({
    anonymous: anonymous.statusCode, signedIn: signedIn.json().source, same: byDefault === byName, codes: Object.keys(errorCodes).length,
  }))
  await app.close()
})
