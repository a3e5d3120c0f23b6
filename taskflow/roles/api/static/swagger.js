"use strict";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  validatorUrl: null, // the default sends the description to a service elsewhere
  deepLinking: true,
  displayRequestDuration: true,
});
