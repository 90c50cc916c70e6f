{# The condition holds on every row; a row on which it is unknown passes. #}
{% test holds(model, condition, only_planned_days=false) %}

select *
from {{ crmcom_transforms.tested_rows(model, only_planned_days) }}
where not ({{ condition }})

{% endtest %}
