{# No two rows agree in `columns`; nulls agree with each other. #}
{% test unique_combination(model, columns, only_planned_days=false) %}

select
    {{ columns | join(', ') }},
    count(*) as rows_found
from {{ crmcom_transforms.tested_rows(model, only_planned_days) }}
group by {{ columns | join(', ') }}
having count(*) > 1

{% endtest %}
