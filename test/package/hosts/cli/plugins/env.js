export { default } from '@fastify/env'

const text = { type: 'string', minLength: 1 }
export const autoConfig = {
  schema: {
    type: 'object',
    required: ['TOOLJET_URL', 'TOOLJET_API_TOKEN', 'REDIS_URL', 'JWT_SECRET'],
    properties: { TOOLJET_URL: text, TOOLJET_API_TOKEN: text, REDIS_URL: text, JWT_SECRET: text },
  },
}
